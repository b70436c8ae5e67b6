FROM rich
MAINTAINER  New   Name <a@b>
USER 12:34
USER web
