"""The embedded cluster beside Kubernetes: what is played on both, and what Kubernetes answered.

The answers (``scheduling.json``, ``kubectl.json``, ``python_client-*.json``) were recorded on
2026-11-23 on a Kubernetes 1.36.2 control plane: etcd, kube-apiserver, kube-controller-manager and
kube-scheduler with their defaults, RBAC on, the node-lifecycle controller off, no kubelet. It was a
vendor's build; a config map that only that vendor makes is left out. What needs a kubelet, kr8s and
the Kubeflow SDK have no recorded answer: there, each call must succeed.

``play``, ``kubectl``, ``python_client``, ``kr8s_client`` and ``kubeflow_client`` take a kubeconfig
and print the same JSON from any cluster; ``compare`` says what must be equal; ``suites`` runs them
on the embedded cluster, for the tests and for ``benchmarks/conformance.py``.
"""
