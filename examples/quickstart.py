"""Tasks, an actor, and an array in shared memory: python quickstart.py, or hpc-launch --nodes 4 quickstart.py"""

import numpy as np

import hpc


@hpc.remote
def row_sum(matrix, row):  # the matrix is a view of the node's shared memory, not a copy
    return matrix[row].sum()


@hpc.remote
class Total:
    value = 0

    def add(self, amount):
        self.value += amount
        return self.value


hpc.init()
matrix = hpc.put(np.ones((100, 100_000)))
total = Total.remote()
totals = [total.add.remote(row_sum.remote(matrix, row)) for row in range(100)]
print("the sum is", hpc.get(totals)[-1])
