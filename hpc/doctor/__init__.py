"""What is wrong with a machine, before a session meets it: `hpc doctor`.

finding     what a check says
machine     checks of the machine that they run on: limits, memory, network, GPUs, Python
folders     checks of file systems: the folder of jobs, the node-local one
site        checks that are made once: the scheduler, the profile, old sessions
nodes       the same on the nodes of a job, and what has to be alike on them
"""
