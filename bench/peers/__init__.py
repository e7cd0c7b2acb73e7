"""The servers of the benchmark: how each is started on one CPU, found, measured and ended.

ALL has those of the scenarios in clear, in the order of the tables; ENCRYPTED those of TLS.
"""

from .exim import Exim, EximTls
from .haraka import Haraka, HarakaTls
from .opensmtpd import OpenSmtpd
from .ours import Null, NullDirect, NullFdatasync, NullMemory, Ringmx, RingmxRsa, RingmxTls
from .postfix import Postfix, PostfixTls, SmtpSink
from .server import BUILD, HERE, Server, Unavailable, allow_files, output

ALL = [Ringmx, NullMemory, NullDirect, NullFdatasync, SmtpSink, Postfix, Exim, OpenSmtpd, Haraka]
ENCRYPTED = [RingmxTls, RingmxRsa, PostfixTls, EximTls, HarakaTls]
