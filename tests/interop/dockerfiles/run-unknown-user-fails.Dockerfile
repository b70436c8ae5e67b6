FROM base
USER nobody-knows
RUN true
