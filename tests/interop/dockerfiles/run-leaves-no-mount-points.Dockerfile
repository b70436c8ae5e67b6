FROM scratch
COPY --from=base /bin/busybox /bin/busybox
RUN ["/bin/busybox", "true"]
RUN ["/bin/busybox", "mkdir", "/x"]
RUN ["/bin/busybox", "sh", "-c", "echo mine >/proc-not; test -e /etc/resolv.conf && test -e /etc/hosts"]
