// Somebody with the page open in a browser: finds things as people do, by their labels and roles.
import assert from 'node:assert/strict';

export const WAIT_MS = 8_000;

export class Visitor {
  errors = [];
  strangers = [];
  // While the server is away a browser itself writes an error for every attempt to connect.
  isOutage = false;

  // `between` may stand in for the connection: it gets the page's end of it, as a WebSocketRoute.
  static async open(browser, url, name, between) {
    const visitor = new Visitor();
    visitor.name = name;
    visitor.context = await browser.newContext({ viewport: { width: 1000, height: 800 } });
    const page = visitor.page = await visitor.context.newPage();
    page.setDefaultTimeout(WAIT_MS);
    page.on('console', message => {
      if (message.type() === 'error' && !visitor.isOutage) visitor.errors.push(message.text());
    });
    page.on('pageerror', error => visitor.errors.push(String(error)));
    page.on('request', request => {
      if (!request.url().startsWith(url) && !request.url().startsWith('data:')) visitor.strangers.push(request.url());
    });
    if (between) await page.routeWebSocket(/\/stomp$/, between);
    await page.goto(url);
    await page.getByLabel('Name').fill(name);
    return visitor;
  }

  get log() {
    return this.page.getByRole('log', { name: 'Chat' });
  }

  get state() {
    return this.page.locator('#state');
  }

  get tickerButton() {
    return this.page.getByRole('button', { name: 'the ticker' });
  }

  async isConnected(version = '1.2') {
    await this.state.filter({ hasText: `Connected, STOMP ${version}` }).waitFor();
  }

  async isDisconnected(waitMs = WAIT_MS) {
    await this.state.filter({ hasText: 'Not connected, trying again' }).waitFor({ timeout: waitMs });
  }

  async say(text) {
    const field = this.page.getByLabel('Message');
    await field.fill(text);
    await this.page.locator('#send:enabled').waitFor();
    await field.press('Enter');
    // It stays in its field until the server has it.
    await this.page.waitForFunction(() => document.getElementById('text').value === '');
  }

  // What `from` said, word for word, with nothing around it but the time and the name.
  async sees(from, text) {
    await this.log.getByText(text, { exact: true }).waitFor();
    const line = await this.log.locator('p').filter({ hasText: text }).last().innerText();
    assert.match(line, /^\d/, 'a line begins with its time');
    assert.ok(line.includes(from.name), `${from.name} is not the name in: ${line}`);
  }

  // Symbol, price and change of each row.
  prices() {
    return this.page.locator('#prices tr').evaluateAll(rows =>
      rows.map(row => [...row.cells].slice(0, 3).map(cell => cell.textContent)));
  }

  async counter(term) {
    return this.page.locator('dl div').filter({ hasText: term }).getByRole('definition').innerText();
  }
}

// Sends bodies as another program might, over a connection of its own, and waits until the server has them all.
export async function publish(visitor, bodies) {
  await visitor.page.evaluate(bodies => new Promise((done, fail) => {
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/stomp`, 'v12.stomp');
    const frame = lines => socket.send(`${lines.join('\n')}\0`);
    socket.onclose = fail;
    socket.onopen = () => {
      frame(['CONNECT', 'accept-version:1.2', 'host:localhost', '', '']);
      for (const [destination, body] of bodies) frame(['SEND', `destination:${destination}`, '', body]);
      frame(['DISCONNECT', 'receipt:last', '', '']);
    };
    socket.onmessage = ({ data }) => data.startsWith('RECEIPT') && done();
  }), bodies);
}

export async function talk(first, second, about) {
  await first.say(`${about}: hello`);
  await second.sees(first, `${about}: hello`);
  await second.say(`${about}: and hello to you`);
  await first.sees(second, `${about}: and hello to you`);
  await second.sees(second, `${about}: and hello to you`);
}
