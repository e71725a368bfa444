"""`python -m gjax` is `gjax`."""

from gjax.cli import entry

if __name__ == '__main__':
    entry()
