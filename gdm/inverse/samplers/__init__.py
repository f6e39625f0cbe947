"""Posterior samplers: functions of a denoiser and a problem, a file each."""
