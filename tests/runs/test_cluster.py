"""Processes of one run: which environments are those of a cluster."""

from gdm.runs.cluster import in_cluster


def test_only_a_launcher_makes_a_cluster():
  assert not in_cluster({})
  assert not in_cluster({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"})  # a batch script's own shell
  assert not in_cluster({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"})
  assert in_cluster({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4"})
  assert in_cluster({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "x"})
