FROM base
RUN touch -d @900000000 /etc/other
COPY a.txt /etc/hosts
COPY b.txt /etc/resolv.conf
RUN grep -q buildkitsandbox /etc/hosts && echo x >/y
RUN rm -rf /y
