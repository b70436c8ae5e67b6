FROM base
RUN --network=none ls /sys/class/net >/net
