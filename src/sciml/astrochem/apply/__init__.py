"""What a script or a hydrodynamics code imports."""
