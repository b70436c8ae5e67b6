FROM base
USER :staff
RUN true
