"""Simulated rooms: one sampled geometry with materials gives a picture, a depth map and a room impulse response."""
