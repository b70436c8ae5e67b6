FROM base
RUN --mount=type=secret,id=none,required=true true
