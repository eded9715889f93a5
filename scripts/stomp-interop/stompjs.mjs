// What @stomp/stompjs must find at the server. A line for each check: column, feature, outcome, reason.
//
//   node stompjs.mjs checks                 all that needs only a server that runs
//   node stompjs.mjs outage DIR             the server freezes and restarts meanwhile, see stomp-interop.sh
//   node stompjs.mjs victim COLUMN QUEUE    takes a message of the queue, and waits to be stopped

import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';

import { Session, Inbox, check, same, sleep, within } from './stompjs_session.mjs';

const COLUMNS = {
    'js-1.0': { versions: ['1.0'] },
    'js-1.1': { versions: ['1.1'] },
    'js-1.2': { versions: ['1.2'] },
    'js-binary': { versions: ['1.2'], forceBinaryWSFrames: true },
};
const BEAT_MS = 1_000;
// An idle time in which a server would miss the client's heart-beats, unless it wants them very rarely.
const IDLE_MS_MIN = 3_000, IDLE_MS_MAX = 25_000;
// How long it may take from the first client that is ready to the server's return.
const OUTAGE_MS = 60_000;
const LARGE_LEN = 200_000;
const MESSAGES = 30, CONSUMERS = 3;

// No dots: those separate the words of a topic.
let names = 0;
const name = column => `${column.replaceAll('.', '')}-${process.pid}-${++names}`;

class Absent extends Error {}

const CHECKS = {
    async connect(column, open) {
        const session = await open();
        const { versions } = COLUMNS[column];
        same('version', session.connected.headers.version, versions[0]);
        same('subprotocol', session.client.webSocket.protocol, `v${versions[0].replace('.', '')}.stomp`);
        check('CONNECTED has no session', session.connected.headers.session);
        const other = await open({ versions: ['1.0', '1.1', '1.2'] });
        same('highest version', other.connected.headers.version, '1.2');
        same('highest subprotocol', other.client.webSocket.protocol, 'v12.stomp');
        check('two sessions have one name', other.connected.headers.session !== session.connected.headers.session);
        await Promise.all([session.end(), other.end()]);
    },

    async disconnect(column, open) {
        const session = await open({ disconnectHeaders: { receipt: 'the last' } });
        const receipt = await session.end();
        check('closed without the receipt of DISCONNECT', receipt);
        same('receipt-id', receipt.headers['receipt-id'], 'the last');
        same('code of the close', (await session.closed).code, 1000);
    },

    async subscribe(column, open) {
        const session = await open();
        const destination = `/topic/${name(column)}`;
        const subscription = await session.subscribe(destination, { id: 'first' });
        await session.send(destination, 'one');
        await session.send(destination, 'two');
        const [one, two] = [await subscription.inbox.next(), await subscription.inbox.next()];
        same('bodies', [one.body, two.body], ['one', 'two']);
        same('destination', one.headers.destination, destination);
        same('subscription', one.headers.subscription, 'first');
        same('content-length', one.headers['content-length'], '3');
        check('no message-id', one.headers['message-id']);
        check('one message-id for two', one.headers['message-id'] !== two.headers['message-id']);
        await session.unsubscribe(subscription);
        await session.send(destination, 'unheard');
        // The id is free again, and nothing of what was sent meanwhile has waited for it.
        const again = await session.subscribe(destination, { id: 'first' });
        await session.send(destination, 'three');
        same('body after a new subscription', (await again.inbox.next()).body, 'three');
        same('messages of an ended subscription', subscription.inbox.messages.length, 0);
        same('messages of no subscription', session.unasked.messages.length, 0);
        await session.end();
    },

    async 'utf-8'(column, open) {
        const session = await open();
        const destination = `/queue/żółw-${name(column)}`;
        const { inbox } = await session.subscribe(destination);
        const headers = { 'wąż': 'zażółć gęślą 日本 🦀', 'content-type': 'text/plain;charset=utf-8' };
        // This client escapes in 1.2 only, and what it makes of a backslash before n, r or c is wrong.
        if (column === 'js-1.0') headers.plain = 'a:b\\n';
        if (session.connected.headers.version === '1.2') headers.escaped = 'a:b\nc\rd\\ e';
        const body = 'Пустыня\n日本🦀';
        await session.send(destination, body, headers);
        const message = await inbox.next();
        same('body', message.body, body);
        for (const [key, value] of Object.entries(headers)) same(`header ${key}`, message.headers[key], value);
        same('destination', message.headers.destination, destination);
        await session.end();
    },

    async 'binary body'(column, open) {
        const session = await open();
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination);
        const bodies = [
            Uint8Array.from({ length: 512 }, (_, index) => index),
            Uint8Array.of(0, 0, 0),
            new TextEncoder().encode('text\0with NUL\0'),
            Uint8Array.of(0xff, 0xfe),
        ];
        for (const body of bodies) {
            await session.send(destination, body);
            same('body', [...(await inbox.next()).binaryBody], [...body]);
        }
        await session.end();
    },

    async 'large body'(column, open) {
        const session = await open();
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination);
        const binary = Uint8Array.from({ length: LARGE_LEN }, (_, index) => (index * index) >> 3);
        await session.send(destination, binary);
        check('large binary body differs', Buffer.from((await inbox.next()).binaryBody).equals(Buffer.from(binary)));
        const text = 'zażółć 🦀 '.repeat(LARGE_LEN / 15);
        await session.send(destination, text);
        check('large text body differs', (await inbox.next()).body === text);
        await session.end();
    },

    async 'split frames'(column, open) {
        // Only text is cut, and a cut between the halves of a character beyond the BMP would damage it.
        if (column === 'js-binary') throw new Absent('binary messages are not cut');
        const session = await open({ splitLargeFrames: true, maxWebSocketChunkSize: 1_000 });
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination);
        const text = 'zażółć 日本 '.repeat(LARGE_LEN / 10);
        await session.send(destination, text, { 'long': 'ż'.repeat(1_500) });
        const message = await inbox.next();
        check('body in parts differs', message.body === text);
        same('header in parts', message.headers.long, 'ż'.repeat(1_500));
        await session.end();
    },

    async 'ack auto'(column, open) {
        const [session, other] = [await open(), await open()];
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination, { ack: 'auto' });
        await session.send(destination, 'taken');
        same('body', await inbox.bodies(1), ['taken']);
        await session.drop();
        await expectLeft(other, destination, []);
    },

    async 'ack client'(column, open) {
        const [session, other] = [await open(), await open()];
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination, { ack: 'client' });
        for (const body of ['1', '2', '3', '4', '5']) await session.send(destination, body);
        const messages = [];
        while (messages.length < 5) messages.push(await inbox.next());
        if (session.connected.headers.version === '1.2') {
            same('different ack headers', new Set(messages.map(message => message.headers.ack)).size, 5);
        }
        await session.ack(messages[2]);
        await session.drop();
        await expectLeft(other, destination, ['4', '5']);
    },

    async 'ack individual'(column, open) {
        const [session, other] = [await open(), await open()];
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination, { ack: 'client-individual' });
        for (const body of ['1', '2', '3', '4', '5']) await session.send(destination, body);
        const messages = [];
        while (messages.length < 5) messages.push(await inbox.next());
        await session.ack(messages[3]);
        await session.ack(messages[1]);
        await session.drop();
        await expectLeft(other, destination, ['1', '3', '5']);
    },

    async nack(column, open) {
        const sessions = [await open(), await open()];
        const destination = `/queue/${name(column)}`;
        const inbox = new Inbox(`a message of ${destination}`);
        for (const session of sessions) await session.subscribe(destination, { ack: 'client-individual' }, inbox);
        await sessions[0].send(destination, 'wanted by one');
        const first = await inbox.next();
        check('redelivered at first', first.headers.redelivered !== 'true');
        await first.session.nack(first);
        const second = await inbox.next();
        check('redelivered to the client that refused it', second.session !== first.session);
        same('body', second.body, 'wanted by one');
        same('redelivered', second.headers.redelivered, 'true');
        await second.session.nack(second, { requeue: 'false' });
        await sessions[0].send(destination, 'next');
        const third = await inbox.next();
        same('body after one that was dropped', third.body, 'next');
        await third.session.ack(third);
        await Promise.all(sessions.map(session => session.end()));
    },

    async 'transaction commit'(column, open) {
        const [session, other] = [await open(), await open()];
        const [out, work] = [`/topic/${name(column)}`, `/queue/${name(column)}`];
        const { inbox } = await other.subscribe(out);
        const tasks = await session.subscribe(work, { ack: 'client-individual' });
        await session.send(work, 'task');
        const task = await tasks.inbox.next();
        const transaction = session.client.begin();
        const inside = { transaction: transaction.id };
        session.client.publish({ destination: out, body: 'inside 1', headers: inside });
        session.client.publish({ destination: out, body: 'inside 2', headers: inside });
        task.ack(inside);
        await session.send(out, 'outside');
        transaction.commit();
        same('order', await inbox.bodies(3), ['outside', 'inside 1', 'inside 2']);
        await session.drop();
        await expectLeft(other, work, []);
    },

    async 'transaction abort'(column, open) {
        const [session, other] = [await open(), await open()];
        const [out, work] = [`/topic/${name(column)}`, `/queue/${name(column)}`];
        const { inbox } = await other.subscribe(out);
        const tasks = await session.subscribe(work, { ack: 'client-individual' });
        await session.send(work, 'task');
        const task = await tasks.inbox.next();
        const transaction = session.client.begin();
        session.client.publish({ destination: out, body: 'lost', headers: { transaction: transaction.id } });
        task.ack({ transaction: transaction.id });
        transaction.abort();
        await session.send(out, 'kept');
        same('what came', await inbox.bodies(1), ['kept']);
        same('messages that came again to the same subscription', tasks.inbox.messages.length, 0);
        await session.drop();
        await expectLeft(other, work, ['task']);
    },

    async receipts(column, open) {
        const session = await open();
        const destination = `/queue/${name(column)}`;
        const subscription = await session.subscribe(destination, { ack: 'client-individual' });
        await session.send(destination, 'one');
        await session.ack(await subscription.inbox.next());
        await session.send(destination, 'two');
        await session.nack(await subscription.inbox.next(), { requeue: 'false' });
        const transaction = session.client.begin();
        await session.send(destination, 'three', { transaction: transaction.id });
        transaction.abort();
        await session.unsubscribe(subscription);
        await session.end();
    },

    async 'error destination'(column, open) {
        const send = await open();
        send.client.publish({ destination: `/nowhere/${name(column)}`, body: 'lost', headers: { receipt: 'r-bad' } });
        expectRefusal('SEND', await send.refused(), 'r-bad');
        const subscribe = await open();
        subscribe.client.subscribe('/queue/', () => {}, { receipt: 'r-bad' });
        expectRefusal('SUBSCRIBE', await subscribe.refused(), 'r-bad');
    },

    async 'error duplicate id'(column, open) {
        const session = await open();
        const destination = `/topic/${name(column)}`;
        await session.subscribe(destination, { id: 'same' });
        session.client.subscribe(destination, () => {}, { id: 'same', receipt: 'r-twice' });
        expectRefusal('SUBSCRIBE', await session.refused(), 'r-twice');
    },

    async 'error transaction'(column, open) {
        const commit = await open();
        commit.client.commit('unknown');
        expectRefusal('COMMIT', await commit.refused(), undefined);
        const send = await open();
        const headers = { transaction: 'unknown', receipt: 'r-unknown' };
        send.client.publish({ destination: `/topic/${name(column)}`, body: 'lost', headers });
        expectRefusal('SEND', await send.refused(), 'r-unknown');
    },

    async topics(column, open) {
        const sessions = [await open(), await open(), await open()];
        const destination = `/topic/${name(column)}`;
        const subscriptions = [];
        for (const session of [...sessions, sessions[0]]) subscriptions.push(await session.subscribe(destination));
        for (const body of ['1', '2', '3']) await sessions[1].send(destination, body);
        for (const { inbox } of subscriptions) same('bodies', await inbox.bodies(3), ['1', '2', '3']);
        await Promise.all(sessions.map(session => session.end()));
    },

    async wildcards(column, open) {
        const [session, sender] = [await open(), await open()];
        const topic = `/topic/${name(column)}`;
        const one = await session.subscribe(`${topic}.*`);
        const rest = await session.subscribe(`${topic}.#`);
        for (const end of ['', '.a', '.a.b', '.b', '-not']) await sender.send(topic + end, end);
        await sender.send(`${topic}.end`, 'end');
        same('bodies of .*', await one.inbox.bodies(3), ['.a', '.b', 'end']);
        const all = [];
        while (all.length < 5) all.push(await rest.inbox.next());
        same('bodies of .#', all.map(message => message.body), ['', '.a', '.a.b', '.b', 'end']);
        same('destination', all[2].headers.destination, `${topic}.a.b`);
        await Promise.all([session.end(), sender.end()]);
    },

    async competing(column, open) {
        const sender = await open();
        const destination = `/queue/${name(column)}`;
        const inbox = new Inbox(`a message of ${destination}`);
        const sessions = [];
        while (sessions.length < CONSUMERS) {
            const session = await open();
            await session.subscribe(destination, {}, inbox);
            sessions.push(session);
        }
        const sent = Array.from({ length: MESSAGES }, (_, index) => String(index));
        for (const body of sent) await sender.send(destination, body);
        const taken = [];
        while (taken.length < MESSAGES) taken.push(await inbox.next());
        same('each once', taken.map(message => message.body).sort(), [...sent].sort());
        same('consumers with work', new Set(taken.map(message => message.session)).size, CONSUMERS);
        await Promise.all([sender, ...sessions].map(session => session.end()));
    },

    async 'reply-to'(column, open) {
        const [one, two, server] = [await open(), await open(), await open()];
        const destination = `/queue/${name(column)}`;
        const { inbox } = await server.subscribe(destination);
        // The name of a temporary queue means something else on each connection.
        for (const session of [one, two]) {
            await session.send(destination, 'question', { 'reply-to': '/temp-queue/answers' });
            const question = await inbox.next();
            const to = session === one ? 'answer for one' : 'answer for two';
            await server.send(question.headers['reply-to'], to);
            const answer = await session.unasked.next();
            same('answer', answer.body, to);
            if (column !== 'js-1.0') same('subscription', answer.headers.subscription, '/temp-queue/answers');
        }
        await Promise.all([one, two, server].map(session => session.end()));
    },

    async 'heart-beats'(column, open) {
        if (column === 'js-1.0') throw new Absent('1.0 has none');
        let beats = 0;
        const session = await open({
            heartbeatIncoming: BEAT_MS,
            heartbeatOutgoing: BEAT_MS,
            onHeartbeatReceived: () => beats++,
        });
        const [serverMs, clientMs] = periods(session);
        const idleMs = Math.min(Math.max(IDLE_MS_MIN, 2.5 * clientMs), IDLE_MS_MAX);
        const wire = new Set();
        session.client.webSocket.addEventListener('message', ({ data }) => wire.add(String(data)));
        await Promise.race([sleep(idleMs), session.closed]);
        check(`the server ended an idle connection after ${beats} heart-beats`, session.client.connected);
        // Some brokers beat twice in a period.
        check(`${beats} heart-beats of the server in ${idleMs} ms`,
            beats >= idleMs / serverMs - 2 && beats <= 2 * idleMs / serverMs + 2);
        same('WebSocket messages of heart-beats', [...wire], ['\n']);
        const destination = `/queue/${name(column)}`;
        const { inbox } = await session.subscribe(destination);
        await session.send(destination, 'alive');
        same('body', await inbox.bodies(1), ['alive']);
        await session.end();
    },

    async 'silent client'(column, open) {
        if (column === 'js-1.0') throw new Absent('1.0 has no heart-beats');
        const session = await open();
        const queue = `/queue/${name(column)}`;
        await session.send(queue, 'held');
        const victim = fork(process.argv[1], ['victim', column, queue]);
        try {
            const held = new Promise(resolve => victim.once('message', resolve));
            const patience = 3 * (await within('a message for the victim', held)) + 3_000;
            victim.kill('SIGSTOP');
            const { inbox } = await session.subscribe(queue, { ack: 'client' });
            const message = await inbox.next(patience);
            same('body', message.body, 'held');
            same('redelivered', message.headers.redelivered, 'true');
            await session.ack(message);
        } finally {
            victim.kill('SIGKILL');
        }
        await session.end();
    },
};

// The messages that the queue still has, all delivered before, and none beside them.
async function expectLeft(session, destination, bodies) {
    const { inbox } = await session.subscribe(destination, { ack: 'auto' });
    for (const body of bodies) {
        const message = await inbox.next();
        same('what was left', message.body, body);
        same('redelivered', message.headers.redelivered, 'true');
    }
    await session.send(destination, 'marker');
    same('what was left at last', await inbox.bodies(1), ['marker']);
    await session.end();
}

function expectRefusal(what, { headers, code }, receipt) {
    check(`ERROR for ${what} has no message`, headers.message);
    same(`receipt-id of the ERROR for ${what}`, headers['receipt-id'], receipt);
    same(`close code after the ERROR for ${what}`, code, 1002);
}

// How often each side has to be heard, if this client asks for BEAT_MS.
function periods(session) {
    const [serverCan, serverWants] = (session.connected.headers['heart-beat'] ?? '0,0').split(',').map(Number);
    check('the server has no heart-beats', serverCan > 0 && serverWants > 0);
    return [Math.max(serverCan, BEAT_MS), Math.max(serverWants, BEAT_MS)];
}

async function checks() {
    await Promise.all(Object.keys(COLUMNS).map(async column => {
        const run = feature => report(column, feature, CHECKS[feature]);
        // These only wait, so they do it while the others work.
        const slow = ['heart-beats', 'silent client'];
        const waiting = slow.map(run);
        for (const feature of Object.keys(CHECKS).filter(feature => !slow.includes(feature))) await run(feature);
        await Promise.all(waiting);
    }));
}

async function report(column, feature, body) {
    const sessions = [];
    const open = async options => {
        const session = await Session.open({ ...COLUMNS[column], ...options });
        sessions.push(session);
        return session;
    };
    let outcome = 'ok', reason = '';
    try {
        await body(column, open);
    } catch (error) {
        outcome = error instanceof Absent ? '-' : 'FAIL';
        reason = error.message;
    }
    console.log([column, feature, outcome, reason.replace(/\s+/g, ' ')].join('\t'));
    // What a check that failed left open must not disturb the others, nor hold up the end.
    await Promise.allSettled(sessions.filter(session => session.client.active).map(session => session.drop()));
}

// Checks of an outage call `arrive` once they are connected: the server stops only when all are.
const OUTAGES = {
    async 'silent server'(column, open, arrive) {
        if (column === 'js-1.0') throw new Absent('1.0 has no heart-beats');
        let lose;
        const lost = new Promise(resolve => (lose = resolve));
        await open({ heartbeatIncoming: BEAT_MS, heartbeatOutgoing: BEAT_MS, onHeartbeatLost: lose });
        arrive();
        await within('the sign that the client missed heart-beats', lost, OUTAGE_MS);
    },

    async reconnect(column, open, arrive) {
        const { client } = await open({ reconnectDelay: 300 });
        const again = new Promise(resolve => (client.onConnect = resolve));
        arrive();
        await within('a new connection', again, OUTAGE_MS);
        const destination = `/topic/${name(column)}`;
        const message = new Promise(resolve => client.subscribe(destination, resolve));
        client.publish({ destination, body: 'back' });
        same('body', (await within('a message on it', message)).body, 'back');
        await client.deactivate();
    },
};

async function outage(directory) {
    const runs = Object.keys(COLUMNS).flatMap(column => Object.keys(OUTAGES).map(feature => [column, feature]));
    let expected = runs.length;
    await Promise.all(runs.map(([column, feature]) => {
        let arrived = false;
        const arrive = () => {
            if (!arrived && --expected === 0) writeFileSync(`${directory}/stompjs.ready`, '');
            arrived = true;
        };
        // One that fails at once must not keep the others waiting.
        return report(column, feature, (_, open) => OUTAGES[feature](column, open, arrive).finally(arrive));
    }));
}

async function victim(column, queue) {
    const beats = { heartbeatIncoming: BEAT_MS, heartbeatOutgoing: BEAT_MS };
    const session = await Session.open({ ...COLUMNS[column], ...beats });
    const { inbox } = await session.subscribe(queue, { ack: 'client' });
    await inbox.next();
    process.send(periods(session)[1]);
}

const [mode, ...rest] = process.argv.slice(2);
await { checks, outage, victim }[mode](...rest);
