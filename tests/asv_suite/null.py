"""The harness's own time per step."""

from siderostat.asv_suite import Throughput


class Nothing(Throughput):
    table = {"workload": "null"}

    def time_infer(self, *point):
        self.run_bursts()
