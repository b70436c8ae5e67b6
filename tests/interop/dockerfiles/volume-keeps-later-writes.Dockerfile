FROM base
RUN mkdir -p /v && echo before >/v/before
VOLUME /v ["/json"] other/path
RUN echo after >/v/after
COPY a.txt /v/
VOLUME ["/json a", "/b"]
