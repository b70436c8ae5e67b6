"""Networks of containers: a bridge with NAT, published ports, and the files that name hosts and servers.

Gives:    a network namespace, ready, as a descriptor; see Networks.
Takes:    container ids and port mappings; never an image, a tag or a command line.
Promises: no helper program is run; what was made is gone after detach(); addresses and ports are never given twice.
"""

from runner.network.files import hosts_file, resolv_conf
from runner.network.networks import Attachment, Networks
from runner.network.ports import PortMapping

__all__ = ["Attachment", "Networks", "PortMapping", "hosts_file", "resolv_conf"]
