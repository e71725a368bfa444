"""Data sets that several runs share."""

import json

from gjax import data


class Opened:
    """The data sets of runs on one mesh: each config's are opened once, and lie once on the devices."""

    def __init__(self):
        self._found: dict[str, tuple[dict, dict]] = {}

    def sets(self, section, seed: int) -> tuple[dict[str, data.Dataset], dict]:
        """(sets by name, see `gjax.data.open_sets`; their copies on the devices, see `Resident`) of a config's `data`.

        Raises:
          gjax.data.DataError: as `gjax.data.open_sets`.
        """
        key = json.dumps([section.to_dict(), seed], sort_keys=True)
        if key not in self._found:
            self._found[key] = data.open_sets(section, seed), {}
        return self._found[key]
