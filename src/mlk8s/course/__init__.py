"""What turns the library and the notebooks into a course: the site, the runs, the exercises."""
