FROM base
RUN echo "$HOME|$PATH|$PWD|$0|$#" >/shell
RUN ["/bin/sh", "-c", "echo \"$0 $1\" >/exec", "zero", "one two"]
RUN ["touch", "/$HOME-not-expanded"]
RUN [ "/bin/sh", "-c", 'echo single quotes are no JSON' ] ; true
RUN ["touch","/no-blanks"]   
