FROM base
RUN --mount=type=secret,id=one,env=TOKEN echo "$TOKEN" | tr a-z A-Z >/upper; ls /run >/run-list 2>/dev/null; true
RUN echo "$TOKEN" >/gone
