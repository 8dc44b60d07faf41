"""Bytes become pixels and pixels bytes, in one way everywhere; and views of them."""
