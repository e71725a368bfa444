"""The place where `load_ticket` was before it moved to `gjax.train.store`; kept for code that imports it from here."""

from gjax.train.store.tickets import load_ticket

__all__ = ['load_ticket']
