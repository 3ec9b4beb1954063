"""A step of training in PyTorch, on one thread: two threads that must share a core are tens of times slower."""

from siderostat.asv_suite import Throughput


class Dnn(Throughput):
    table = {"workload": "galaxy-shape", "modes": ["train"], "batches": [8], "devices": ["cpu:threads=1"]}

    def time_train(self, *point):
        self.run_bursts()
