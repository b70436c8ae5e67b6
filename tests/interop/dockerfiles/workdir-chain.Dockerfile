FROM base
WORKDIR /a
WORKDIR b/c
WORKDIR ../d
WORKDIR ./e/
WORKDIR /
WORKDIR rel/../x//y
RUN pwd >pwd
