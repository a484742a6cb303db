"""Stand-ins for the programs that a test machine cannot have. They are not those programs.

They run inside a test machine under the names of the real ones, print what those print, keep one
state (``/var/lib/standins/state.json``), append every call to ``calls.jsonl`` and fail or hang
where ``faults.json`` says so (:mod:`.calls`). Which of the playbook's commands are judged by what:

========================  =======================================================================
``snap``                  installs, refreshes, holds and restarts names in the state. No snapd, no
                          store, no confinement, no running service.
``microk8s``              addons, start and stop, join tokens, as state. ``kubectl`` is the real
                          kubectl against mlk8s' embedded cluster, on whose node an addon's objects
                          are put when the addon is enabled. Nothing is downloaded.
``microk8s helm3``        releases and their values. No chart is rendered: a release of a chart
                          that the playbook uses puts a few named objects into the cluster.
``ubuntu-drivers``        lists and installs the packages of :mod:`packages <..packages>` with the
                          real apt.
``nvidia-smi``            answers when the driver's packages are installed and the module is loaded.
``modprobe`` ``lsmod``    one fact: which of nvidia and nouveau is loaded. A reboot loads nvidia.
``modinfo`` ``mokutil``   facts of the state.
``lspci``                 the NVIDIA devices of the state.
``systemctl``             runs a unit's ``ExecStart`` as a process. No dependencies, no sandbox, no
                          restart policy, no cgroup.
``shutdown``              asks process 1 of the machine to end all others and start sshd again.
``make``                  ``make setup`` writes ``.venv``; its ``jupyter`` answers ``/api`` alone.
``update-initramfs``      does nothing.
========================  =======================================================================

Formats are those of snapd 2.71, MicroK8s' wrappers (canonical/microk8s, ``scripts/wrappers``) and
core addons, helm 3, ubuntu-drivers-common 0.9 and driver 580; nothing here was recorded from a
machine that the playbook built.
"""
