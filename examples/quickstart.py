"""Tasks, an actor, and an array in shared memory: python quickstart.py, or hpc-launch --nodes 4 quickstart.py"""

import numpy as np

import hpc


@hpc.remote
def row_sum(matrix, row):  # matrix is a view of the node's shared memory: no copy for each task
    return float(matrix[row].sum())


@hpc.remote
class Total:
    def __init__(self):
        self.value = 0.0

    def add(self, amount):
        self.value += amount
        return self.value


if __name__ == "__main__":
    hpc.init()
    matrix = hpc.put(np.ones((100, 100_000)))
    sums = [row_sum.remote(matrix, row) for row in range(100)]
    total = Total.remote()
    print(hpc.get([total.add.remote(amount) for amount in sums])[-1])
