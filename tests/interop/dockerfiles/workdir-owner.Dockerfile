FROM base
RUN mkdir -m 777 /open
USER app
WORKDIR /open/mine/deep
RUN touch here
WORKDIR /open
USER 4:5
WORKDIR /open/by-number
USER app:web
WORKDIR /by-root-parent/x
USER 7
WORKDIR /open/number-alone
USER 1000
WORKDIR /open/number-that-has-an-entry
