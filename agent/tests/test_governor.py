"""The governor, with a made clock."""

from __future__ import annotations

from ezadmin_agent.governor import Governor


class Process:
    """An agent that costs ``share`` of a core, of which ``costs`` are its collectors'."""

    def __init__(self, governor: Governor) -> None:
        self.governor = governor
        self.at = self.cpu = 0.0
        self.costs = {"cheap": 0.0, "top": 0.0, "filesystem": 0.0}
        self.rss = 40 << 20

    def run(self, seconds: float, share: float, **costs: float) -> list[str]:
        told = []
        for _ in range(int(seconds / 3)):
            self.at += 3
            self.cpu += 3 * share
            for name, cost in costs.items():
                self.costs[name] += cost * 3000 / self.governor.stretch.get(name, 1)
            told += self.governor.observe(self.at, self.cpu, self.rss, self.costs)
        return told


def test_within_its_limits_nothing_happens() -> None:
    process = Process(Governor(0.02, 96 << 20))
    assert process.run(600, 0.015, top=0.01) == []
    assert process.governor.stretch == {}


def test_a_short_peak_is_no_reason() -> None:
    process = Process(Governor(0.02, 96 << 20))
    assert process.run(60, 0.001) == []
    assert process.run(3, 0.06, top=0.05) == []  # 0.02 over the 12 s around it
    assert process.run(60, 0.001) == []


def test_the_costliest_is_stretched_up_to_8_and_all_is_taken_back() -> None:
    process = Process(Governor(0.02, 96 << 20))
    told = process.run(15, 0.05, top=0.04, filesystem=0.002)
    assert len(told) == 1
    assert "5.0 % of a core over 12 s, allowed 2: the collector top (40.0 ms CPU a second) runs 2 times" in told[0]
    process.run(12, 0.05, top=0.04)
    process.run(12, 0.05, top=0.04)
    assert process.governor.stretch == {"top": 8}
    told = process.run(60, 0.05, top=0.04, filesystem=0.016)
    assert process.governor.stretch == {"top": 8, "filesystem": 8}
    assert any("no collector is to blame" in text for text in told)
    assert process.run(60, 0.05, top=0.04) == []  # told once
    told = process.run(600, 0.005)
    assert process.governor.stretch == {}
    assert sum("runs as often as configured again" in text for text in told) == 2


def test_it_does_not_swing_at_the_limit() -> None:
    process = Process(Governor(0.02, 96 << 20))
    process.run(15, 0.03, top=0.02)
    assert process.governor.stretch == {"top": 2}
    assert process.run(600, 0.018, top=0.01) == []
    assert process.governor.stretch == {"top": 2}


def test_memory_counts_too() -> None:
    process = Process(Governor(0.02, 96 << 20))
    process.rss = 120 << 20
    told = process.run(15, 0.01, top=0.005)
    assert told
    assert "120 MiB of memory, allowed 96" in told[0]
    assert process.governor.memory_high
    process.rss = 50 << 20
    process.run(300, 0.001)
    assert not process.governor.memory_high
    assert process.governor.stretch == {}
