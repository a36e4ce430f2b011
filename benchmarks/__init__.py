"""Side by side with peers. Not part of CI; reads the folder that LUTHIER_BENCH_DATA names."""
