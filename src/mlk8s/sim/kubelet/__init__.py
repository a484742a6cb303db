"""The kubelet of the nodes that the simulator started: pods become processes, logs, or waiting.

``kubelet`` hears of pods, ``admission`` takes or refuses them, and ``worker`` leads one pod along
its way: ``volumes`` lays out its directories, ``pulling`` gets images, ``starting`` makes and
starts containers, ``ending`` ends them, and ``status`` says to the API how they are. ``container``
is what is known of one container; ``environment`` has its variables and paths, and ``launch``
runs it: a ``process``, a given log, or something that waits. ``probes`` keeps time, ``checks``
asks. ``images`` is the catalogue; ``processes`` and ``reaper`` keep local processes in bounds,
``sample`` measures them; ``ray_command`` is what pods find as ``ray``. ``logs``, ``stream`` and
``usage`` answer what a kubelet is asked.
"""
