"""The contracts: topics, records, states, errors and HTTP bodies. Pydantic only: a producer installs nothing else."""
