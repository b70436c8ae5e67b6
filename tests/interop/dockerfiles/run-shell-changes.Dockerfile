FROM base
SHELL ["/bin/sh", "-euc"]
RUN echo $- >/dash
CMD shell form $A
ENTRYPOINT shell entry
SHELL ["/bin/busybox", "ash", "-c"]
RUN echo $0 >/zero
HEALTHCHECK CMD shell check
