#!/usr/bin/env python3
"""The inventory of `make node HOST=…`: turns NODE_HOSTS into the group gpu_nodes.

NODE_HOSTS holds one or more of [USER@]ADDRESS[:PORT], separated by commas or spaces; an IPv6
address stands in brackets. The first machine is the one that the others join. For anything beyond
that (names, keys, variables per machine) write an inventory file: inventory.example.yml.
"""

from __future__ import annotations

import json
import os
import re
import sys

HOST = re.compile(
    r"(?:(?P<user>[^@\s:\[\]]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>\d{1,5}))?"
)


def inventory(hosts: str) -> dict[str, object]:
    """The inventory, as Ansible's script plug-in reads it.

    Raises:
        ValueError: one of the hosts is not of that form, or one is named twice.
    """
    variables: dict[str, dict[str, object]] = {}
    for word in hosts.replace(",", " ").split():
        match = HOST.fullmatch(word)
        if match is None or not 0 < int(match["port"] or 22) < 65536:
            raise ValueError(
                f"HOST: {word!r} is not a machine. Next: write it as USER@ADDRESS or "
                "USER@ADDRESS:PORT, for example ubuntu@203.0.113.7."
            )
        name = match["host"] or match["v6"]
        if match["port"]:
            name = f"{name}-{match['port']}"
        if name in variables:
            raise ValueError(f"HOST: {word!r} is named twice. Next: name every machine once.")
        variables[name] = {"ansible_host": match["host"] or match["v6"]}
        if match["user"]:
            variables[name]["ansible_user"] = match["user"]
        if match["port"]:
            variables[name]["ansible_port"] = int(match["port"])
    if not variables:
        raise ValueError("NODE_HOSTS is empty. Next: make node HOST=ubuntu@203.0.113.7.")
    return {"gpu_nodes": {"hosts": list(variables)}, "_meta": {"hostvars": variables}}


if __name__ == "__main__":
    try:
        print(json.dumps(inventory(os.environ.get("NODE_HOSTS", "")), indent=1))
    except ValueError as error:
        sys.exit(str(error))
