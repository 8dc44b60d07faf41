"""Files that hold many images: a key becomes the bytes of one."""
