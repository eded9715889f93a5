// Drives the page of `ringsock serve` in a browser. Started by scripts/page-test.sh, which says where
// everything is: page-test.mjs BINARY CHROMIUM DIRECTORY, the last with node_modules in it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

import { Server, freePort } from './server.mjs';
import { Visitor, WAIT_MS, publish, talk } from './visitor.mjs';

const [binary, executablePath, directory] = process.argv.slice(2);
const { chromium } = createRequire(`${directory}/`)('playwright-core');

const RUN_MS = 55_000, OUTAGE_MS = 1_500, PRICES_MS = 4_000;
// Of the page: a heart-beat every 10 s at most, and two of the server's missing are too many.
const BEAT_MS = 11_000, SILENCE_MS = 23_000;
// With this even the browser's own errands end at once.
const LOOPBACK_ONLY = '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1';

const server = new Server(binary, await freePort(), `${directory}/server.log`);
const visitors = [];
let browser, failed = 0;

for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]]) process.once(signal, () => end(code));
setTimeout(() => {
  console.log(`FAILED  the whole of it: not done within ${RUN_MS} ms`);
  end(1);
}, RUN_MS);

async function end(code) {
  server.kill();
  await Promise.race([browser?.close().catch(() => {}), sleep(3_000)]);
  process.exit(code);
}

async function check(name, run) {
  const start = Date.now();
  try {
    await run();
    console.log(`ok      ${name} (${Date.now() - start} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message.split('\n')[0]}`);
    for (const { name, page } of visitors) {
      await page.screenshot({ path: `${directory}/${name}.png`, timeout: 1_000 }).catch(() => {});
    }
  }
}

async function open(name, between) {
  const visitor = await Visitor.open(browser, server.url, name, between);
  visitors.push(visitor);
  return visitor;
}

// --- what may lie between the page and the server ---------------------------------------------------

// Sends the server's bytes on in pieces of 1 to 5, the last of which has the first bytes of the next message.
function recut(route) {
  const upstream = route.connectToServer();
  let held = Buffer.alloc(0), timer;
  upstream.onMessage(message => {
    held = Buffer.concat([held, Buffer.from(message)]);
    for (let length = 1; held.length > 2; length = length % 5 + 1) {
      route.send(held.subarray(0, length));
      held = held.subarray(length);
    }
    // A frame that nothing follows has to arrive as well.
    clearTimeout(timer);
    timer = setTimeout(() => held.length && (route.send(held), held = Buffer.alloc(0)), 20);
  });
}

// Sends all that the server says within 100 ms as one message.
function glue(route) {
  const upstream = route.connectToServer();
  let held = '', timer;
  upstream.onMessage(message => {
    held += message;
    timer ??= setTimeout(() => (route.send(held), held = '', timer = undefined), 100);
  });
}

// Has an older page connect: one that knows `version` only.
const only = version => route => {
  const upstream = route.connectToServer();
  route.onMessage(message => upstream.send(message.replace(/^(CONNECT\naccept-version:).*/, `$1${version}`)));
};

// The first connection goes deaf when `ready` has been received: nothing of the server arrives any more.
function deafening() {
  const seen = { connections: 0, beats: 0, isDeaf: false };
  seen.between = route => {
    const number = seen.connections += 1, upstream = route.connectToServer();
    route.onMessage(message => {
      if (message === '\n') seen.beats += 1;
      upstream.send(message);
    });
    upstream.onMessage(message => {
      if (number > 1 || !seen.isDeaf) route.send(message);
    });
  };
  return seen;
}

async function until(what, waitMs, isSo) {
  for (const end = Date.now() + waitMs; !await isSo(); await sleep(50)) {
    if (Date.now() >= end) throw new Error(`not within ${waitMs} ms: ${what}`);
  }
}

// --- the checks -------------------------------------------------------------------------------------

let ada, ben, deaf, deafAt;
const silence = deafening();

await check('the server starts and the browser too', async () => {
  browser = await chromium.launch({
    executablePath, args: [LOOPBACK_ONLY], timeout: 15_000,
    handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false, // `end` closes it
  });
  await server.start();
});
if (failed) await end(1);

await check('two pages open and connect', async () => {
  ada = await open('Ada');
  ben = await open('Ben');
  deaf = await open('Deaf', silence.between);
  for (const visitor of [ada, ben, deaf]) await visitor.isConnected();
  // It takes its time to notice, while the other checks go on.
  silence.isDeaf = true;
  deafAt = Date.now();
});
if (failed) await end(1);

await check('each sees what the other says', () => talk(ada, ben, 'first'));

await check('characters of many bytes, colons and backslashes arrive as they were', async () => {
  for (const text of ['Zażółć 🦀 \u{1F9D1}\u200D\u{1F680} ελ', 'a:b\\n\\c\\\\ "quoted" {}']) {
    await ada.say(text);
    await ben.sees(ada, text);
  }
});

await check('markup in a line and in a name is text', async () => {
  const markup = '<img src=x onerror="window.broken=1"><b>bold</b><script>window.broken=1</script>';
  await ben.page.getByLabel('Name').fill('<i>Ben</i>');
  await ben.say(markup);
  await ada.sees({ name: '<i>Ben</i>' }, markup);
  await ben.page.getByLabel('Name').fill(ben.name);
  assert.equal(await ada.log.locator('img, script, i, b b').count(), 0);
  assert.equal(await ada.page.evaluate(() => window.broken), undefined);
});

await check('a page bears what other programs send', async () => {
  const object = '{"valueOf":1,"toString":1}'; // of which JavaScript cannot make a string
  const oddities = ['', 'null', '7', '[]', '{', '"\\ud800"', '{"text":7}', `{"name":${object},"text":${object}}`];
  const prices = ['1e308', '"7"', 'null', object, '-1e999'].map(price => `{"price":${price},"from":${object}}`);
  await publish(ben, [
    ...oddities.map(body => ['/topic/chat', body]),
    ...[...oddities, ...prices].map(body => ['/topic/ticker.ALDR', body]),
    ['/topic/ticker.__proto__', '{"price":7}'],
    ['/topic/chat', 'plain text'],
    ['/topic/chat', JSON.stringify({ name: 'n'.repeat(9_999), text: 't'.repeat(99_999) })],
  ]);
  await ada.sees({ name: 'somebody' }, 'plain text');
  await ada.log.getByText(/^t{1000}$/).waitFor();
  for (const [, price] of await ada.prices()) assert.equal(price, '–');
  await talk(ada, ben, 'nothing has happened');
});

await check('the ticker runs and both pages show its prices', async () => {
  await ada.tickerButton.click();
  for (const visitor of [ada, ben]) {
    const shown = /^(,?[A-Z]{4},\d+\.\d\d,[▲▼=] \d+\.\d\d){4}$/;
    await until('prices', PRICES_MS, async () => shown.test(await visitor.prices()));
  }
  const before = String(await ben.prices());
  await until('new prices', PRICES_MS, async () => String(await ben.prices()) !== before);
  await until('the same on both', PRICES_MS, async () => String(await ada.prices()) === String(await ben.prices()));
  await ben.page.getByText('Another page publishes prices.').waitFor();
  assert.ok(await ben.tickerButton.isDisabled(), 'one page publishes at a time');
  assert.ok((await ben.page.locator('polyline').first().getAttribute('points')).includes(' '), 'a course is drawn');
});

await check('another page can go on with the ticker', async () => {
  await ada.tickerButton.click();
  await until('the button of the other page', WAIT_MS, () => ben.tickerButton.isEnabled());
  await ben.tickerButton.click();
  await ada.page.getByText('Another page publishes prices.').waitFor();
});

await check('messages are counted and round trips measured', async () => {
  assert.ok(Number(await ada.counter('Messages in')) > 8);
  assert.ok(Number(await ada.counter('Messages out')) > 8);
  assert.match(await ada.counter('Round trip of a SEND'), /^\d+\.\d ms$/);
  console.log(`        a SEND and its RECEIPT took ${await ada.counter('Round trip of a SEND')}`);
});

await check('frames are understood wherever messages cut or join them', async () => {
  const [cut, joined] = [await open('Cut', recut), await open('Joined', glue)];
  await cut.isConnected();
  await joined.isConnected();
  await talk(cut, joined, 'żółć in pieces');
  await until('prices from pieces', PRICES_MS, async () => (await cut.prices()).every(([, price]) => price !== '–'));
});

for (const version of ['1.0', '1.1']) {
  await check(`STOMP ${version} will do as well`, async () => {
    const old = await open(`Old ${version}`, only(version));
    await old.isConnected(version);
    await talk(old, ada, `a:b \\n of ${version}`);
  });
}

await check('the page fits a telephone', async () => {
  await ben.page.setViewportSize({ width: 320, height: 640 });
  assert.equal(await ben.page.evaluate(() => document.documentElement.scrollWidth), 320, 'nothing is wider');
  await ben.page.setViewportSize({ width: 1000, height: 800 });
});

await check('a page that was offline is back, and talks again', async () => {
  ben.isOutage = true;
  await ben.context.setOffline(true);
  await ben.isDisconnected();
  assert.ok(await ben.page.locator('#send').isDisabled(), 'nothing can be sent');
  await ben.context.setOffline(false);
  await ben.isConnected();
  ben.isOutage = false;
  await talk(ada, ben, 'after being offline');
});

await check('a page sends heart-beats, notices that the server is silent, and connects again', async () => {
  await until('a heart-beat', deafAt + BEAT_MS - Date.now(), () => silence.beats > 0);
  await until('a second connection', deafAt + SILENCE_MS - Date.now(), () => silence.connections > 1);
  await deaf.isConnected();
  await talk(deaf, ada, 'no longer deaf');
});

await check('the server stops, and the pages say so', async () => {
  for (const visitor of visitors) visitor.isOutage = true;
  await server.stop();
  for (const visitor of [ada, ben]) await visitor.isDisconnected();
  await sleep(OUTAGE_MS);
});

await check('the server is there again, and so are the pages', async () => {
  await server.start();
  for (const visitor of [ada, ben]) await visitor.isConnected();
  for (const visitor of visitors) visitor.isOutage = false;
  await talk(ada, ben, 'after the restart');
  await ada.page.getByText('Another page publishes prices.').waitFor();
});

await check('no page has errors in its console, or asked anybody else for anything', async () => {
  assert.deepEqual(visitors.flatMap(({ name, errors }) => errors.map(error => `${name}: ${error}`)), []);
  assert.deepEqual(visitors.flatMap(({ strangers }) => strangers), []);
});

await check('the server stops without complaint', () => server.stop());

console.log(failed ? `${failed} checks failed; pictures and the server's log: ${directory}` : 'all checks passed');
await end(failed ? 1 : 0);
