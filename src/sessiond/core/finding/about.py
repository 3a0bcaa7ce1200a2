"""What a mail is about, as far as it bears on whether there is a code or a link in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sessiond.core.finding import words as words
from sessiond.core.finding.folding import Words
from sessiond.core.finding.part import Part

HEARD_MAX_CHARS: Final = 6_000  # of each part: mails with a code say so soon

# That what it brings ends soon.
EXPIRES: Final = Words("""
    en: expire*, valid for, valid until, valid only, remains valid, only valid, is valid, will be valid, good for
    en: within
    de: gültig*, gilt, läuft ab, ablaufen, verfällt, innerhalb
    fr: expire*, valable*, valide
    es: caduca*, expira*, válido, válida, vence, vigencia
    pt: expira*, válido, válida, validade
    it: scade*, scadrà, valido, valida, validità
    nl: verloopt, geldig, vervalt
    pl: wygasa*, wygaśnie, ważny, ważność, ważne
    tr: geçerli*, süresi, sona er*
    ru: истека*, истеч*, действител*, действует, срок действия
    uk: дійсний, діє
    sv: går ut, giltig*, upphör*
    da: udløber, utløper, gyldig*
    fi: vanhenee, voimassa
    cs: platn*, vyprší
    hu: érvényes*, lejár
    ro: valabil*
    el: ισχύει, λήγει
    id: berlaku, kedaluwarsa
    vi: hết hạn, hiệu lực
    th: หมดอายุ
    hi: मान्य, समाप्त
    he: בתוקף
    fa: معتبر
    zh: 有效, 过期, 過期, 失效
    ja: 有効, 期限
    ko: 유효, 만료
    ar: صالح, صلاحية, ينتهي
""")

# That it is no one else's.
SECRET: Final = Words("""
    en: not share, don't share, never share, not forward, not give, keep it secret, not disclose, never ask
    de: nicht weiter*, niemals weiter, niemandem, mit niemandem, nicht teilen
    fr: ne partagez, ne le partagez, ne communiquez, ne le communiquez, ne transmettez, à personne
    es: no compartas, no lo compartas, no comparta, no lo comparta, con nadie
    pt: não compartilhe, não o compartilhe, não partilhe, com ninguém
    it: non condividere, non condividerlo, con nessuno, non comunicare
    nl: niet delen, deel deze, deel dit, met niemand
    pl: nie udostępniaj, nikomu, nie podawaj
    tr: paylaşma*, kimseyle
    ru: никому, не сообщайте, не передавайте
    uk: нікому, не повідомляйте
    sv: dela inte, lämna inte, aldrig
    da: del ikke, ikke del, aldrig
    fi: älä jaa, älä kerro
    id: jangan bagikan, jangan berikan
    vi: không chia sẻ
    zh: 泄露, 洩露, 告诉他人, 告知他人, 他人, 提供给
    ja: 教えないで, 共有しないで, 第三者, 他人
    ko: 공유하지, 알려주지, 타인
    ar: لا تشارك, عدم مشاركة
""")

# That someone asked for it, and what to do if it was not the reader.
UNASKED: Final = Words("""
    en: didn't request, did not request, didn't ask, did not ask, didn't try, didn't make, haven't requested
    en: if you didn't, if you did not, wasn't you, was not you, ignore this, ignore it, disregard, didn't sign up
    en: not expect*, no action, safely ignore, didn't create, you requested, you asked, we received a request, someone
    de: nicht angefordert, nicht beantragt, nicht sie, nicht du, ignorier*, nicht versucht, nicht veranlasst
    de: gegenstandslos
    fr: n'avez pas demandé, pas à l'origine, ignore*, ignorez, n'est pas vous, n'avez pas fait, avez demandé, demande
    es: no solicit*, no has solicitado, no pediste, ignora*, ignore, no fuiste tú, omite, has solicitado, solicitud
    pt: não solicitou, não pediu, ignore, desconsidere, não foi você, recebemos um pedido, solicitação
    it: non hai richiesto, non ha richiesto, ignora*, non sei stato, hai richiesto, richiesta
    nl: niet aangevraagd, negeer*, niet hebt aangevraagd, aanvraag, heb je niet, hebt u dit niet
    pl: zignoruj*, to nie ty, nie prosił*, nie wysyłał*, prośb*
    tr: dikkate alma*, görmezden, göz ardı, yoksay*, siz değilseniz, talep etmediyseniz, siz yapmadıysanız
    tr: istemediyseniz
    ru: проигнорир*, не запрашивали, не вы, не делали, запрос
    uk: проігноруй*, не запитували, не ви
    sv: bortse, ignorera*, inte begärt, inte du, inte bett
    da: ignorer, se bort, ikke anmodet, ikke bedt, ikke dig, ikke deg
    fi: jätä huomiotta, et pyytänyt, et ole pyytänyt
    cs: ignorujte, nepožádali, nežiadali
    hu: hagyja figyelmen kívül, nem ön
    id: abaikan, tidak meminta
    vi: bỏ qua
    zh: 非本人, 不是您, 不是你, 忽略, 没有请求, 請忽略, 未请求, 未曾
    ja: 心当たり, 無視, 破棄, 覚えのない
    ko: 요청하지 않, 무시, 본인이 아니
    ar: تجاهل, لم تطلب
""")

# What mails speak of whose codes are for something else.
SELLING: Final = Words("""
    en: promo*, % off, discount*, checkout, coupon*, sale, voucher*, off your, free shipping, shop now, black friday
    en: receipt, subtotal, total
    de: rabatt*, gutschein*, sale, angebot*, warenkorb, kasse, einkauf*, versandkostenfrei
    fr: promo*, soldes, réduction*, remise, panier, offre*, livraison offerte
    es: descuento*, rebajas, cupón*, oferta*, compra, carrito
    pt: desconto*, promoç*, cupom, oferta*, compra, carrinho
    it: sconto*, saldi, offerta, offerte, carrello, acquist*
    nl: korting*, aanbieding*, uitverkoop, winkelwagen, winkelmand*
    pl: rabat*, promocj*, zniżk*, wyprzedaż*, koszyk*
    tr: indirim*, kampanya*, sepet*, fırsat*
    ru: скидк*, распродаж*, акци*, корзин*
    sv: rea, rabatt*, erbjudande*, kassan, varukorg
    da: rabat*, tilbud, udsalg, salg, indkøbskurv
    zh: 优惠, 優惠, 折扣, 促销, 购物, 抢购, 满减
    ja: セール, 割引, クーポン, お買い物, ポイント
    ko: 할인, 세일, 쿠폰, 구매
    ar: خصم, تخفيض*, عرض, تسوق
""")

MEETING: Final = Words("""
    en: meeting id, join zoom, zoom meeting, join the meeting, join meeting, dial in, webinar, conference id
    en: teams meeting, join by phone, one tap mobile, join from, conference call, video call, dial by your location
    en: invited you to a
    de: meeting*, besprechung*, videokonferenz*, telefonkonferenz, einwählen, einwahl*
    fr: réunion*, visioconférence, conférence
    es: reunión*, videollamada, videoconferencia
    pt: reunião, videochamada, videoconferência
    it: riunione, videochiamata
    nl: vergadering, videogesprek
    pl: spotkani*, wideokonferencj*
    tr: toplantı*
    ru: встреч*, конференци*, совещани*
    sv: möte*, videomöte
    zh: 会议, 會議
    ja: ミーティング, 会議
    ko: 회의
    ar: اجتماع
""")

PROGRAMMING: Final = Words("""
    en: commit, commits, pull request, merge request, merged, pushed, repository, additions, deletions, stack trace
    en: diff, test fixtures, build failed, tests passed, deployed, changelog, lines of code, source code
""")

TRAVEL: Final = Words("""
    en: flight*, itinerary, check in, reservation*, booking*, hotel*, guest*, boarding, passenger*, night*, departure
    en: arrival*, trip, host, stay, seat*, airport*, ticket*, train*, table for
    de: flug*, reise*, hotel*, buchung*, reservierung*, nächte, gäste, abflug, ankunft, anreise, abreise, zug, bahn*
    fr: vol, voyage*, hôtel, réservation, nuit*, départ, arrivée, billet*, train
    es: vuelo*, viaje*, hotel, reserva*, noche*, salida, llegada, billete*, tren, pasajero*
    pt: voo*, viagem, hotel, reserva*, noite*, partida, chegada, bilhete*, comboio, passageiro*
    it: volo, viaggi*, hotel, prenotazione, notti, partenza, arrivo, bigliett*, treno, passegger*
    nl: vlucht*, reis*, hotel, boeking, reservering, nachten, vertrek, aankomst, trein
    pl: lot*, podróż*, hotel*, rezerwacj*, nocleg*, wylot, przylot, pociąg*
    tr: uçuş*, seyahat*, otel*, rezervasyon*, gece, kalkış, varış, tren
    ru: рейс*, поездк*, отел*, бронирован*, ноч*, вылет*, прилет*, поезд*, пассажир*
    sv: flyg*, resa, hotell*, bokning*, nätter, avgång, ankomst, tåg*
    zh: 航班, 酒店, 预订, 入住, 出发, 到达, 乘客, 列车
    ja: 便, ホテル, 予約, 宿泊, 出発, 到着, 搭乗
    ko: 항공, 호텔, 예약, 숙박, 출발, 도착, 탑승
    ar: رحلة, فندق, حجز, مغادرة, وصول
""")


class About(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    """Folded."""
    expires: bool
    secret: bool
    unasked: bool
    proving: bool
    """Words like sign in, verify, confirm are in it."""
    selling: bool
    meeting: bool
    programming: bool
    travelling: bool


def make_about(subject: Part, bodies: Sequence[Part]) -> About:
    heard = "\n".join(part.folded[:HEARD_MAX_CHARS] for part in (subject, *bodies))
    return About(
        subject=subject.folded,
        expires=EXPIRES.search(heard) is not None,
        secret=SECRET.search(heard) is not None,
        unasked=UNASKED.search(heard) is not None,
        proving=words.PROOF.search(heard) is not None,
        selling=SELLING.search(heard) is not None,
        meeting=MEETING.search(heard) is not None,
        programming=PROGRAMMING.search(heard) is not None,
        travelling=len({found[0] for found in TRAVEL.finditer(heard)}) >= 3,
    )
