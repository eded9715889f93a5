// The server under test: started, stopped by its process id, and started again on the same port.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const START_MS = 5_000, STOP_MS = 5_000;

export class Server {
  #process;

  constructor(binary, port, log) {
    Object.assign(this, { binary, port, log: openSync(log, 'w') });
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  async start() {
    const stdio = ['ignore', this.log, this.log];
    this.#process = spawn(this.binary, ['serve', '--listen', `127.0.0.1:${this.port}`], { stdio });
    this.#process.on('error', () => {}); // there is no process then, as if it had ended
    for (const end = Date.now() + START_MS; Date.now() < end; await sleep(50)) {
      if (!this.#isRunning()) break;
      const answer = await fetch(this.url, { signal: AbortSignal.timeout(1_000) }).catch(() => null);
      if (answer?.ok) return;
    }
    throw new Error(`the server ended or showed no page within ${START_MS} ms`);
  }

  async stop() {
    const exit = once(this.#process, 'exit', { signal: AbortSignal.timeout(STOP_MS) });
    this.#process.kill('SIGINT');
    const [code] = await exit.catch(() => ['none yet']);
    if (code !== 0) throw new Error(`the exit code ${STOP_MS} ms after SIGINT, or before, was ${code}`);
  }

  // For the end, whatever has happened before.
  kill() {
    if (this.#isRunning()) this.#process.kill('SIGKILL');
  }

  #isRunning() {
    return this.#process?.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }
}

export async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}
