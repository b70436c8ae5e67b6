FROM base
ADD tar/p* /x/
