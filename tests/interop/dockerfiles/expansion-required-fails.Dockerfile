FROM base
ENV a=${nope:?must be set}
