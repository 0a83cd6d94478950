from pathlib import Path

import pytest


@pytest.fixture
def hwmon(tmp_path: Path):
    """A tree as Linux shows it: `chip(name, **files)` adds one below /sys/class/hwmon of the returned root."""

    class Tree:
        root = tmp_path
        folder = tmp_path / "sys/class/hwmon"

        def chip(self, name: str, **files: object) -> Path:
            self.folder.mkdir(parents=True, exist_ok=True)
            place = self.folder / f"hwmon{len(list(self.folder.iterdir()))}"
            place.mkdir()
            for file, content in {"name": name, **files}.items():
                (place / file).write_text(f"{content}\n")
            return place

        def rails(self, *rails: tuple[str, int, int]) -> Path:
            """An INA3221 with rails of (label, millivolts, milliamperes); channel 7 sums shunt voltages."""
            files: dict[str, object] = {"in7_label": "sum of shunt voltages", "in7_input": 40, "curr7_input": 9999}
            for channel, (label, volts, amperes) in enumerate(rails, 1):
                files |= {f"in{channel}_label": label, f"in{channel}_input": volts, f"curr{channel}_input": amperes}
            return self.chip("ina3221", **files)

    return Tree()
