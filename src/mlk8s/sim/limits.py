"""What the embedded cluster does not model: one list, shown by ``status`` and in the book."""

from __future__ import annotations

#: (part, what is not modeled, what happens instead).
LIMITS: tuple[tuple[str, str, str], ...] = (
    ("GPU", "CUDA", "no GPU code runs; a device is a line in a table, and nothing is measured"),
    ("GPU", "memory and fault isolation", "shares and MIG devices are counted, not enforced"),
    ("GPU", "drivers, NVLink topology, reboots", "absent; a MIG layout takes fixed seconds"),
    ("GPU", "operator, NFD and DRA driver pods", "their results only: labels, slices, operands"),
    ("GPU", "which legal placement a driver picks", "the first that fits"),
    ("containers", "images and isolation", "a local process, a replayed log, or ErrImagePull"),
    ("containers", "a file system of their own", "paths outside of mounts are this machine's"),
    ("containers", "mounts", "mounted paths are rewritten in command, args, env and workingDir"),
    (
        "containers",
        "grpc probes, lifecycle hooks",
        "such probes pass, as http and tcp ones do where no process listens; hooks do not run",
    ),
    ("containers", "CPU limits, disk pressure", "memory is sampled, output and time are bounded"),
    ("containers", "in-place resize, ephemeral containers", "refused"),
    (
        "network",
        "pod network, DNS, Services that forward",
        "addresses are made up; a process listens on a port of this machine, which variable "
        "MLK8S_PORT_<declared> and annotation mlk8s.dev/ports tell",
    ),
    ("network", "port-forward", "refused; pods/proxy and services/proxy reach processes"),
    ("network", "proxy: WebSockets, links in HTML pages", "refused; not rewritten"),
    (
        "API",
        "RBAC, webhooks, admission policies, audit",
        "one administrator; RBAC objects are stored; add-ons have webhooks",
    ),
    (
        "API",
        "autoscaling/v1, events.k8s.io, certificates.k8s.io",
        "absent; kubectl autoscale fails",
    ),
    (
        "API",
        "service account tokens as JWTs, impersonation",
        "opaque tokens that may do everything",
    ),
    ("API", "API versions other than the newest stable", "404"),
    ("API", "managedFields of the cluster's own components", "not recorded"),
    ("API", "protobuf answers", "JSON and YAML"),
    ("API", "conversion between versions of a CRD", "fields stay as written"),
    (
        "API",
        "CEL cost limits, rarely used CEL libraries",
        "no limit; such a CRD rule is passed over",
    ),
    ("scheduler", "gang scheduling, extenders, other profiles", "absent; add-on kueue has gangs"),
    ("scheduler", "volume limits, zones and capacity of storage", "every node can mount"),
    ("scheduler", "queueing hints for each plugin", "coarser: a message may be renewed earlier"),
    ("scheduler", "DeviceTaintRule, binding conditions of devices", "not waited for"),
    (
        "controllers",
        "HorizontalPodAutoscaler: other metrics than utilization, behavior",
        "ignored; CPU and memory of processes are measured and scaled by",
    ),
    ("controllers", "hashes in names of ReplicaSets and revisions", "right form, other letters"),
    ("controllers", "volume provisioners", "microk8s.io/hostpath alone"),
    ("controllers", "zone-wide eviction limits, out-of-service taints", "absent"),
    (
        "add-ons",
        "software of other projects",
        "models, off by default; mlk8s cluster addon list says of which version and what is left "
        "out",
    ),
    ("time", "how long real components take", "pulls, starts and MIG changes take chosen seconds"),
)
