"""Small parts that several packages of hpc.rllib, and programs, use."""
