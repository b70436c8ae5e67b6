FROM rich
USER root
RUN mv /d /moved && mv /moved/e/f /f && mv /links/a /links/c
RUN mv /moved/g /moved/g2 && mkdir /moved/g && mv /moved/g2 /moved/g/
