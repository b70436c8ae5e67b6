FROM base
ENV A=1
RUN echo x \
  y >/x
COPY a.txt /a
