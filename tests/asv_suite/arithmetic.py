"""A fixed amount of NumPy work: what shows whether the machine has changed."""

from siderostat.asv_suite import Throughput


class Fourier(Throughput):
    table = {"workload": "arithmetic"}

    def time_infer(self, *point):
        self.run_bursts()
