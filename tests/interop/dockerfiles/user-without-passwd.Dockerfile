FROM scratch
COPY --from=base /bin/busybox /bin/busybox
COPY void /tmp
RUN ["/bin/busybox", "chmod", "1777", "/tmp"]
USER 5
WORKDIR /tmp/w
RUN ["/bin/busybox", "sh", "-c", "echo $HOME >/tmp/home; /bin/busybox id -u >/tmp/id"]
USER 5:6
WORKDIR /tmp/v
RUN ["/bin/busybox", "touch", "made"]
