"""What a name says: whether a file may be an image, what systems leave among files, and why a name is no row of a list. Short, because
lists, archives and folders all need it, and stand above one another."""

import re

SUFFIXES = frozenset(b"jpg jpeg jpe jfif png bmp gif tif tiff webp ppm pgm jp2 avif heic".split())

DOT, BESIDE, NO_IMAGE = "names with a leading dot", "files beside the class folders", "files that are no images"
SYSTEMS, EMPTY, OWN = "system folders", "class folders without an image", "folders that distill wrote"
OUT, BROKEN, UP, ODD = "links out of the root", "broken links", "links back up", "not regular files"
PART, SLASH = "names with an empty part", "names that end in a slash"

# Folders that systems and file servers leave, in small letters: archives of Macs, repaired disks, Windows, Synology, QNAP. They hold no images of a list.
SYSTEM_FOLDERS = ("__macosx", "lost+found", "$recycle.bin", "system volume information", "@eadir", "#recycle", "@recycle")
# What systems and people put into folders that are empty to them, in any letters.
SYSTEM = re.compile(
    "(?i)" + "|".join(map(re.escape, SYSTEM_FOLDERS)) + r"|\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.nfs[0-9a-f]+|\.Trash.*"
    r"|\.Spotlight-V100|\.fseventsd|\.TemporaryItems|\.snapshots?|\.git(keep|ignore|attributes)|\.keep|\.nomedia|\.dockerignore"
    r"|\.ipynb_checkpoints|\.stfolder|\.stignore|\.stversions|\.directory|\.localized|\.apdisk|\.AppleDouble|\.DocumentRevisions-V100|\.VolumeIcon\.icns"
    r"|Icon\r|ehthumbs(_vista)?\.db|@Recently-Snapshot|\.@__thumb|\.sync|\.dropbox(\.cache|\.attr)?|\.fuse_hidden[0-9a-f]+"
)
_SYSTEM = frozenset(name.encode() for name in SYSTEM_FOLDERS)


def is_system(name: bytes) -> bool:
    """Whether a folder of this name is what a system or a file server leaves among photos."""
    return name.lower() in _SYSTEM


def is_image(name: bytes) -> bool:
    """Whether a file of this name may be an image: its suffix is one of SUFFIXES, in any case, or it has none."""
    _, dot, suffix = name.rpartition(b".")
    return not dot or suffix.lower() in SUFFIXES or not suffix
