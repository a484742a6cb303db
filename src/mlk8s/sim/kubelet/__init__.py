"""The kubelet of the nodes that the simulator started: pods become processes, logs, or waiting.

``kubelet`` hears of pods, ``worker`` takes one pod along its way (``pulling`` gets its images), and
``container`` is what is known of one container; ``launch`` starts it, ``status`` says it to the
API. ``images`` is the catalogue; ``processes`` and ``reaper`` keep local processes in bounds;
``ray_command`` is what pods find as ``ray``; ``logs``, ``stream`` and ``usage`` answer what a
kubelet is asked.
"""
