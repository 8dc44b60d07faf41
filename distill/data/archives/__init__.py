"""Archives, files with many images: a key becomes the bytes of one."""
