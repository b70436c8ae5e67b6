FROM base
ADD --chown=app:web tar/plain.tar /x/
