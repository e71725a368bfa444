"""Which entries of folders and archives belong to a data set, and how names from outside are printed: one rule for all."""

# Compared in lower case.
_SYSTEM = frozenset(
    {
        '__macosx',
        '__pycache__',
        'thumbs.db',
        'ehthumbs.db',
        'desktop.ini',
        '$recycle.bin',
        'system volume information',
        'lost+found',
        '@eadir',
        'icon\r',
    }
)
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')  # of images, in any case


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name (no path) is hidden or the system's own: it begins with '.', or is such as
    '__MACOSX', 'Thumbs.db' and 'desktop.ini'. No reader of data sees it."""
    return name.startswith('.') or name.lower() in _SYSTEM


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image of a format that is read."""
    return name.lower().endswith(SUFFIXES)


def shown(text: str) -> str:
    """The text on one line that any terminal prints: what is not printable is escaped."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def listed(names, limit: int = 3) -> str:
    """'a, b, c, ...': the first `limit` of some names, printable."""
    names = list(names)
    return ', '.join(map(shown, names[:limit])) + (', ...' if len(names) > limit else '')
