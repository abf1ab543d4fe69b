FROM node:24-bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends iproute2 iputils-ping nftables util-linux wireguard-go wireguard-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/foreshift
COPY package.json package-lock.json ./
# Development tools too: what starts Foreshift compares the folder with the whole lock file.
RUN npm ci --no-audit --no-fund
COPY . .
ENTRYPOINT ["node", "cli/foreshift.mjs"]
